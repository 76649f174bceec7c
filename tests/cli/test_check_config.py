"""`xtrace serve --check-config` says what a start would meet, and changes nothing."""

import re

from support.service import LiveService
from support.terminal import Result, Terminal

CHECK = "serve --check-config --port 0"


def lines(result: Result, level: str) -> str:
    """The sentences of a level."""
    assert re.fullmatch(r"((ok|warning|error): .*\n)*", result.out), result.out
    return "\n".join(line for line in result.out.splitlines() if line.startswith(f"{level}: "))


def test_a_first_start_is_fine_and_nothing_is_made(shell: Terminal) -> None:
    result = shell(f"{CHECK} --data new/data")
    assert (result.status, result.err) == (0, "")
    assert "new/data will be created" in lines(result, "ok")
    assert "is missing or empty" in lines(result, "ok")
    assert (lines(result, "error"), list(shell.folder.iterdir())) == ("", [])


def test_every_wrong_setting_is_named(shell: Terminal) -> None:
    result = shell(f"{CHECK} --set max_chunks=many --set search_threads=0")
    assert result.status == 1
    assert "XTRACE_MAX_CHUNKS" in lines(result, "error")
    assert "XTRACE_SEARCH_THREADS" in lines(result, "error")
    assert result.err == "xtrace: correct the settings above, then check the rest again\n"


def test_a_running_server_is_found_by_its_folder_and_port(shell: Terminal, live_service: LiveService) -> None:
    port = live_service.url.rpartition(":")[2]
    result = shell(f"serve --check-config --data {live_service.folder} --port {port}")
    assert result.status == 1
    assert f"a server runs on {live_service.folder}: stop it" in lines(result, "error")
    assert f"cannot listen on 127.0.0.1 port {port}: Address already in use; stop the program" in lines(result, "error")
    assert result.err == "xtrace: the server would not start or work with these settings: see the errors above\n"
