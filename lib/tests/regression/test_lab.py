"""The explorer in a real JupyterLab, with the students that the nbval run has trained (build/nbval)."""

import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import time

import jupytext
import nbformat
import pytest
from book import METADATA
from playwright.sync_api import expect, sync_playwright
from presets import TEXT
from seqdistill.io import ROOT

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(not CHROMIUM, reason="there is no Chromium on this machine: `apt-get install chromium`")
PATIENCE = 120_000  # milliseconds


@pytest.fixture
def lab(tmp_path):
    """A JupyterLab with the explorer, set to the smoke preset; its address."""
    notebook = jupytext.read(TEXT / "09-explore.py")
    notebook.cells[1].source = notebook.cells[1].source.replace('"default"', '"smoke"')
    notebook.metadata = nbformat.from_dict(METADATA)
    nbformat.write(notebook, tmp_path / "explore.ipynb")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    token = secrets.token_hex(16)
    given = {"ServerApp.root_dir": tmp_path, "ServerApp.ip": "127.0.0.1", "ServerApp.port": port}
    given |= {"IdentityProvider.token": token, "ServerApp.allow_root": True, "LabApp.news_url": None}
    given |= {"LabApp.check_for_updates_class": "jupyterlab.NeverCheckForUpdate"}
    options = (f"--{name}={value}" for name, value in given.items())
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", *options]
    environment = {name: value for name, value in os.environ.items() if name != "TQDM_DISABLE"}
    environment |= {"SEQDISTILL_OUTPUTS": str(ROOT / "build" / "nbval"), "JUPYTER_CONFIG_DIR": str(tmp_path / "config")}
    with (tmp_path / "log").open("w") as log:
        server = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    try:
        while "is running at" not in (tmp_path / "log").read_text():
            assert server.poll() is None, (tmp_path / "log").read_text()
            time.sleep(0.2)
        yield f"http://127.0.0.1:{port}/lab/tree/explore.ipynb?reset&token={token}"
    finally:
        server.terminate()
        server.wait()


def test_a_reader_picks_a_user_and_adds_an_event(lab):
    with sync_playwright() as engine:
        browser = engine.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 1000})
        page.set_default_timeout(PATIENCE)
        page.route(re.compile("^(?!http://127.0.0.1|data:|blob:)"), lambda route: route.abort())
        page.goto(lab)
        page.get_by_text("Python 3 (ipykernel) | Idle").wait_for()
        page.get_by_role("menuitem", name="Run", exact=True).click()
        page.get_by_text("Run All Cells", exact=True).click()
        user, event = page.locator(".widget-dropdown select").nth(0), page.locator(".widget-dropdown select").nth(1)
        event.wait_for()
        shown = page.locator(".jupyter-widgets .jp-OutputArea").last
        expect(shown).to_contain_text("distilled", timeout=PATIENCE)
        first = shown.inner_text()
        user.select_option(index=5)
        expect(shown).not_to_have_text(first, timeout=PATIENCE)
        expect(shown).to_contain_text("distilled", timeout=PATIENCE)
        expect(shown).not_to_contain_text("before")
        event.select_option(index=7)
        expect(shown).to_contain_text("distilled: before", timeout=PATIENCE)
        assert shown.locator("img").count() == 1, "the map"
        assert page.locator(".jp-OutputArea-output[data-mime-type='application/vnd.jupyter.error']").count() == 0
        browser.close()
