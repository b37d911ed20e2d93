from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from edge.subscriber import Store
from tests.support.postgresql import PostgreSql, postgresql


@pytest.fixture(scope="session")
def server() -> Iterator[PostgreSql]:
    """One PostgreSQL for all tests that need one."""
    with postgresql() as running:
        yield running


@pytest.fixture(params=["sqlite", "postgresql"])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An address where no store is yet, in either database."""
    if request.param == "sqlite":
        return str(tmp_path / "city.sqlite")
    return str(request.getfixturevalue("server").new_database())


@pytest.fixture
def store(store_url: str) -> Iterator[Store]:
    """An empty store in either database."""
    with Store(store_url, create=True) as opened:
        yield opened
