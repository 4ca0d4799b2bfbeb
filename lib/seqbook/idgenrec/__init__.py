from seqdistill.io import require

require("transformers", "llm")
