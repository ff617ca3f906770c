"""What other people name cannot forge or steer a log."""

import io
import logging

import pytest

from broker_stub.log_lines import LogLines


@pytest.fixture
def log() -> tuple[logging.Logger, io.StringIO]:
    written = io.StringIO()
    output = logging.StreamHandler(written)
    output.setFormatter(LogLines("%(levelname)s %(message)s"))
    logger = logging.Logger("test")
    logger.addHandler(output)
    return logger, written


def test_one_record_is_one_line(log: tuple[logging.Logger, io.StringIO]) -> None:
    logger, written = log
    logger.warning("A second agent came as server %s.", "x\nERROR all is lost\x1b[2J\u202e")
    assert written.getvalue() == "WARNING A second agent came as server x␊ERROR all is lost␛[2J<U+202E>.\n"


def test_a_traceback_keeps_its_lines(log: tuple[logging.Logger, io.StringIO]) -> None:
    logger, written = log
    try:
        int("one")
    except ValueError:
        logger.exception("failed")
    assert len(written.getvalue().splitlines()) > 3
