"""The MLflow UI in a real browser: the trials, the best first."""

import re
import shutil
import signal
import socket
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Marsexp

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


@pytest.fixture
def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def visible_text(html: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", re.sub(r"(?s)<(script|style).*?</\1>", " ", html)))


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
def test_leaderboard_is_sorted_in_the_browser(
    finished_search: Marsexp, leaderboard: dict[str, Any], free_port: int, tmp_path: Path
) -> None:
    server = subprocess.Popen(
        finished_search.command("ui", "--port", str(free_port)),
        cwd=finished_search.folder,
        env=finished_search.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert server.stdout is not None
        address = server.stdout.readline().strip()
        assert address.startswith(f"http://127.0.0.1:{free_port}/")
        flags = (
            *("--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"),
            *("--disable-component-update", "--disable-sync", "--window-size=1900,1000"),
        )
        browser = [str(CHROMIUM), *flags, f"--user-data-dir={tmp_path}", "--virtual-time-budget=30000", "--dump-dom"]
        done = subprocess.run([*browser, address], capture_output=True, text=True, timeout=120, check=False)
    finally:
        server.send_signal(signal.SIGTERM)
        server.communicate(timeout=30)
    status = server.returncode
    assert status == 0
    text = visible_text(done.stdout)
    assert "best_val_mean_iou" in text
    assert "model.num_blocks" in text
    rows = {}
    for row in re.findall(
        r'(?s)<div[^>]*role="row"[^>]*row-index="(\d+)"[^>]*>(.*?)(?=<div[^>]*role="row"|$)', done.stdout
    ):
        if name := re.search(r"tiny-trial-(\d+)", row[1]):
            rows[int(row[0])] = int(name.group(1))
    scored = [trial for trial in leaderboard["trials"] if trial["best_val_mean_iou"] is not None]
    expected = sorted(scored, key=lambda trial: -trial["best_val_mean_iou"])
    assert [rows[index] for index in sorted(rows)] == [trial["trial"] for trial in expected]


def test_taken_port_is_refused(finished_search: Marsexp, free_port: int) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", free_port))
        holder.listen()
        done = finished_search("ui", "--port", str(free_port))
    assert done.status == 2
    assert f"port {free_port} is taken" in done.stderr
