"""Buckets for tests: moto's S3, and a server of our own with latency and faults."""

from __future__ import annotations

import logging
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from bucket_server import BucketServer

SECRET = "wJalrXUtnFEMI-not-to-be-seen"
KEY = "AKIANOTTOBESEEN"


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Keys that no message may show; nothing asks the address of a machine's own credentials."""
    for name, value in {
        "AWS_ACCESS_KEY_ID": KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_REGION": "us-east-1",
        "AWS_METADATA_ENDPOINT": "http://127.0.0.1:9",
        "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "credentials"),
        "AWS_CONFIG_FILE": str(tmp_path / "config"),
    }.items():
        monkeypatch.setenv(name, value)


@pytest.fixture(scope="module")
def service() -> Iterator[str]:
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.CRITICAL)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def moto(service: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A client of boto3 with an empty bucket `box`."""
    import boto3

    urllib.request.urlopen(urllib.request.Request(f"{service}/moto-api/reset", method="POST"))
    monkeypatch.setenv("AWS_ENDPOINT_URL", service)
    client = boto3.client("s3")
    client.create_bucket(Bucket="box")
    return client


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[BucketServer]:
    with BucketServer().serving() as served:
        monkeypatch.setenv("AWS_ENDPOINT_URL", served.url)
        yield served
