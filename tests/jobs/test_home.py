"""Addresses of the tracking store: the same from every folder, and none for the embedded one."""

from pathlib import Path

import pytest

from marsseg.jobs.home import Home, resolve_tracking_uri


def test_a_relative_database_is_named_by_its_whole_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    absolute = f"sqlite:///{tmp_path.resolve()}/mlruns/mlflow.db"
    assert resolve_tracking_uri("sqlite:///mlruns/mlflow.db") == absolute
    assert resolve_tracking_uri("sqlite:///./mlruns/../mlruns/mlflow.db?timeout=9") == f"{absolute}?timeout=9"
    assert resolve_tracking_uri(absolute) == absolute


@pytest.mark.parametrize("uri", ["http://server:5000", "postgresql://server/m", "sqlite:///:memory:", "databricks"])
def test_other_addresses_stay_as_they_are(uri: str) -> None:
    assert resolve_tracking_uri(uri) == uri
    assert Home(Path("/somewhere")).server(uri) == uri


def test_the_embedded_store_is_no_server() -> None:
    home = Home(Path("/somewhere/mlruns"))
    assert home.server("sqlite:////somewhere/mlruns/mlflow.db") is None
    assert home.server("sqlite:////elsewhere/mlruns/mlflow.db") == "sqlite:////elsewhere/mlruns/mlflow.db"
    assert home.server(None) is None
