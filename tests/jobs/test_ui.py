"""The MLflow UI in a real browser: the trials, best first; charts, a comparison, and a trial's plots."""

import json
import shutil
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from selenium import webdriver
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

from tests.conftest import Marsexp

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
DRIVER = shutil.which("chromedriver")
needs_browser = pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="needs Chromium and its driver")
FLAGS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--window-size=1900,1143"),
)
PICTURES = ("learning_curve.png", "confusion_matrix.png", "samples.png")
WIDTH = "return arguments[0].complete && arguments[0].naturalWidth"
Trials = list[dict[str, Any]]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Browser:
    """Chromium, showing the pages of one server."""

    def __init__(self, driver: webdriver.Chrome, address: str) -> None:
        self.driver = driver
        self.address = address
        self.experiment = address.split("#")[1].split("?")[0].removesuffix("/runs")

    def open(self, address: str) -> None:
        # The UI is a single-page application: without this, a change of the hash alone would keep its state.
        self.driver.get("about:blank")
        self.driver.get(address)

    def open_run(self, run_id: str) -> None:
        self.open(f"{self.address.split('#')[0]}#{self.experiment}/runs/{run_id}")

    def until(self, found: Callable[[], Any]) -> Any:
        """Waits until `found` returns something truthy, and returns that."""
        wait = WebDriverWait(self.driver, 40, 0.2, (StaleElementReferenceException,))
        return wait.until(lambda _: found())

    def all(self, selector: str) -> list[WebElement]:
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def text(self) -> str:
        return self.driver.find_element(By.TAG_NAME, "body").text

    def click(self, text: str) -> None:
        path = f"//*[normalize-space(text())='{text}']"
        self.until(lambda: self.driver.find_elements(By.XPATH, path))[0].click()

    def plotted(self) -> list[tuple[str, int]]:
        """The type and number of points of each Plotly trace on the page."""
        script = "return [...document.querySelectorAll('.js-plotly-plot')].flatMap(plot => plot.data ?? [])"
        size = ".map(trace => [trace.type, (trace.x ?? trace.dimensions ?? []).length])"
        return [(kind, count) for kind, count in self.driver.execute_script(script + size)]

    def rows(self) -> list[list[str]]:
        """The table of runs as displayed: each row's name and the cells to its right."""
        cells: dict[int, list[tuple[float, str]]] = {}
        for cell in self.all(".ag-row .ag-cell"):
            row = cell.find_element(By.XPATH, "..")
            if cell.text:
                # For screen readers, the cell names the run's colour in a line above its name.
                cells.setdefault(row.rect["y"], []).append((cell.rect["x"], cell.text.splitlines()[-1]))
        return [[text for _, text in sorted(cells[y])] for y in sorted(cells)]


def start_ui(marsexp: Marsexp, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        marsexp.command("ui", *arguments),
        cwd=marsexp.folder,
        env=marsexp.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )


@pytest.fixture(scope="module")
def browser(finished_search: Marsexp, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    port = free_port()
    server = start_ui(finished_search, "--port", str(port))
    try:
        options = webdriver.ChromeOptions()
        options.binary_location = str(CHROMIUM)
        for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('chromium')}"):
            options.add_argument(flag)
        with webdriver.Chrome(options=options, service=webdriver.ChromeService(executable_path=DRIVER)) as driver:
            assert server.stdout is not None
            address = server.stdout.readline().strip()
            assert address.startswith(f"http://127.0.0.1:{port}/")
            browser = Browser(driver, address)
            browser.open(address)
            # MLflow's assistant opens once in a new browser and covers a quarter of the page.
            browser.until(lambda: browser.all("[aria-label='Close']"))[-1].click()
            yield browser
    finally:
        server.send_signal(signal.SIGTERM)
        server.communicate(timeout=30)
    assert server.returncode == 0


@pytest.fixture(scope="module")
def trials(leaderboard: dict[str, Any]) -> Trials:
    """The trials that have a score, as the UI sorts them."""
    scored = [trial for trial in leaderboard["trials"] if trial["best_val_mean_iou"] is not None]
    return sorted(scored, key=lambda trial: -trial["best_val_mean_iou"])


@needs_browser
def test_leaderboard_shows_scores_and_choices_the_best_first(browser: Browser, trials: Trials) -> None:
    browser.open(browser.address)
    rows = browser.until(browser.rows)
    assert [row[0] for row in rows] == [f"tiny-trial-{trial['trial']}" for trial in trials]
    titles = {title.text for title in browser.all(".ag-header-cell") if title.is_displayed()}
    assert {"best_val_mean_iou", "epochs", "params", "model.num_blocks", "loss.terms"} <= titles
    # Values that all trials share do not get a column.
    assert "training.batch_size" not in titles
    for row, trial in zip(rows, trials, strict=True):
        assert str(trial["best_val_mean_iou"]) in row
        assert trial["values"]["loss.terms"] in row


@needs_browser
def test_charts_compare_the_trials(browser: Browser, trials: Trials) -> None:
    browser.open(f"{browser.address}&compareRunsMode=CHART")
    browser.until(lambda: ("bar", len(trials)) in browser.plotted())
    browser.until(lambda: any(kind == "scatter" and count > 1 for kind, count in browser.plotted()))
    text = browser.text()
    for title in ("val_mean_iou", "best_val_mean_iou", "Parallel Coordinates", "params vs. best_val_mean_iou"):
        assert title in text.splitlines()
    fills = "return [...document.querySelectorAll('.barlayer .point path')].map(bar => getComputedStyle(bar).fill)"
    assert len(set(browser.driver.execute_script(fills))) == len(trials), "one colour a trial"
    axes = browser.until(lambda: browser.all(".parcoords svg .dimension"))
    assert len(axes) > 4


@needs_browser
def test_three_trials_are_compared(browser: Browser, trials: Trials) -> None:
    run_ids = [trial["run_id"] for trial in trials[:3]]
    experiment = browser.experiment.rsplit("/", 1)[1]
    query = f"runs={quote(json.dumps(run_ids))}&experiments={quote(json.dumps([experiment]))}"
    browser.open(f"{browser.address.split('#')[0]}#/compare-runs?{query}")
    browser.until(lambda: "Comparing 3 Runs" in browser.text())
    browser.until(lambda: any(kind == "parcoords" for kind, _ in browser.plotted()))
    text = browser.text()
    for trial in trials[:3]:
        assert f"tiny-trial-{trial['trial']}" in text
    scores = {f"{round(trial['best_val_mean_iou'], 3):g}" for trial in trials[:3]}
    browser.until(lambda: scores <= set(browser.text().splitlines()))
    browser.click("Scatter Plot")
    browser.until(lambda: ("scattergl", 3) in browser.plotted())


@needs_browser
def test_trial_page_tells_what_it_is_and_shows_its_pictures(browser: Browser, trials: Trials) -> None:
    best = next(trial for trial in trials if trial["state"] == "completed")
    browser.open_run(best["run_id"])
    browser.until(lambda: "Parameters (" in browser.text() and "best_val_mean_iou" in browser.text())
    text = browser.text()
    assert "a test" in text
    assert f"Trial {best['trial']} of tiny is completed after {best['epochs']} epochs" in text
    assert f"marsexp reproduce {best['run_id']}" in text
    browser.click("Artifacts")
    for picture in PICTURES:
        browser.click(picture)
        image = browser.until(lambda name=picture: browser.all(f"img[alt='{name}']"))[0]
        assert browser.until(lambda image=image: browser.driver.execute_script(WIDTH, image)) > 100


@needs_browser
def test_search_page_leads_to_its_leaderboard(browser: Browser, leaderboard: dict[str, Any], trials: Trials) -> None:
    browser.open_run(leaderboard["search_run_id"])
    links = browser.until(lambda: browser.driver.find_elements(By.PARTIAL_LINK_TEXT, "All trials as a leaderboard"))
    browser.open(str(links[0].get_attribute("href")))
    rows = browser.until(browser.rows)
    assert [row[0] for row in rows] == [f"tiny-trial-{trial['trial']}" for trial in trials]


def test_a_search_is_opened_by_its_name_and_a_server_that_serves_already_only_named(
    finished_search: Marsexp, tmp_path: Path
) -> None:
    port = free_port()
    server = start_ui(finished_search, "tiny", "--port", str(port))
    try:
        assert server.stdout is not None
        own = server.stdout.readline().strip()
        assert own.endswith("&viewStateShareKey=search-tiny")
        for path in (f"http://127.0.0.1:{port}", f"http://127.0.0.1:{port}/"):
            done = finished_search("ui", "--tracking-uri", path)
            assert (done.status, done.stdout.strip()) == (0, own.replace("search-tiny", "leaderboard"))
        elsewhere = Marsexp(tmp_path, tmp_path / "home")("ui", "tiny", "--tracking-uri", path)
        assert elsewhere.stdout.strip() == own
    finally:
        server.send_signal(signal.SIGTERM)
        server.communicate(timeout=30)


def test_unknown_search_is_refused(finished_search: Marsexp) -> None:
    done = finished_search("ui", "tinny")
    assert done.status == 1
    assert "tinny" in done.stderr
    assert "did you mean 'tiny'?" in done.stderr


def test_taken_port_is_refused(finished_search: Marsexp) -> None:
    port = free_port()
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", port))
        holder.listen()
        done = finished_search("ui", "--port", str(port))
    assert done.status == 2
    assert f"port {port} is taken" in done.stderr
