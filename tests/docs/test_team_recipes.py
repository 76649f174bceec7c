"""The recipes of several people or servers run as they stand, and what they promise is true."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli.conftest import PASSPHRASE
from support.authority import certificates
from support.corporate_proxy import HOST, corporate_proxy
from support.language_model import language_model, streamed
from support.library import furnish, make_keys, shell_in
from support.recipe import RECIPES, Reader, blocks
from support.service import LiveService, running_service
from support.terminal import Terminal
from xtrace_sdk.sync import XTraceIntegration
from xtrace_sdk.x_vec.contexts.manifest import Manifest
from xtrace_server.credentials import Credentials, write_credentials

LEASE = "# Lease\n\nThe rent of 900 euros is due on the third of each month.\n"


def write(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def folder_of(tmp_path: Path, name: str) -> Terminal:
    """An empty folder of a person with a home of their own."""
    (tmp_path / name).mkdir()
    return Terminal(tmp_path / name, {"HOME": str(tmp_path / f"{name}-home")})


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    make_keys(folder, PASSPHRASE)
    return folder


def test_every_recipe_is_run_by_a_test_and_linked() -> None:
    tests = "".join(path.read_text() for path in Path(__file__).parents[1].glob("*/test_*.py"))
    readme = (RECIPES.parents[1] / "README.md").read_text()
    for page in RECIPES.glob("*.md"):
        assert f'"{page.name}"' in tests, page.name
        assert f"docs/recipes/{page.name}" in readme, page.name


def test_a_private_rag_for_a_team(tmp_path: Path, credentials: Credentials) -> None:
    page = blocks("private-rag-for-a-team.md")
    url = {"https://xtrace.example.com": credentials.api_url}
    owner = Reader(folder_of(tmp_path, "owner"), dict(url))
    write_credentials(owner.shell.folder / "credentials.json", credentials)
    write(
        owner.shell.folder / "handbook",
        {
            "leave.md": "# Leave\n\nEveryone has 30 days of leave a year.\n",
            "travel.md": "# Travel\n\nBook trains, not flights.\n",
        },
    )
    for name in ("owner: set up", "owner: load"):
        owner(page[name])
    shared = owner(page["owner: share"]).out
    ids = next(line.split() for line in shared.splitlines() if "context restore" in line)
    (kb,) = owner.shell("kb list --json").json

    with language_model() as model:
        ada = Reader(
            folder_of(tmp_path, "ada"),
            {"CONTEXT_ID": ids[3], "KB_ID": kb["id"], "https://llm.example.com/v1": model.url},
        )
        shutil.copy(owner.shell.folder / "xtrace-ada.json", ada.shell.folder)
        write(ada.shell.folder, {"notes/mine.txt": "A note.\n"})
        model.plans = [streamed("You have 30 days of leave ", "a year. [1]")]
        set_up = ada(page["ada: set up"])
        assert "the API key can read the knowledge base, but not write to it" in set_up.err
        asked = ada(page["ada: ask"])
        assert f"are sent in plaintext to {model.url.removesuffix('/v1')}" in asked.err
        assert "30 days of leave" in model.requests[0]["messages"][-1]["content"]
        assert "permission" in ada(page["ada: load"]).err

        (owner.shell.folder / "handbook" / "travel.md").unlink()
        assert "removed    1" in owner(page["owner: again"]).out
        listed = owner.shell("keys list").out.splitlines()
        owner.replaced["KEY"] = next(line.split()[0] for line in listed if line.endswith(" Ada"))
        owner(page["owner: revoke"])
        ada.shell("search leave").fails("key")
        assert len(model.requests) == 1
    assert {name.split(":")[0] for name in page} == {"owner", "ada"}


def test_move_to_another_server(tmp_path: Path, live_service: LiveService, keys: Path) -> None:
    page = blocks("move-to-another-server.md")
    folder = tmp_path / "folder"
    old = live_service.new_organisation()
    with running_service(tmp_path / "new-data") as new:
        old_id = furnish(folder, old, keys, [])
        reader = Reader(shell_in(folder), {"OLD_ID": old_id})
        (folder / "xtrace-data" / "credentials.json").rename(folder / "old.json")
        write_credentials(folder / "new.json", new.first_credentials)
        (folder / "old-data").symlink_to(live_service.folder)
        (folder / "new-data").symlink_to(new.folder)
        write(folder / "notes", {"lease.md": LEASE, "cat.txt": "The cat is asleep on the warm radiator.\n"})
        (folder / ".env").write_text("XTRACE_CREDENTIALS=old.json\nXTRACE_KB=documents\n")
        assert reader.shell("load notes").status == 0
        before = reader.shell("search 'When is the rent due?' --json").json["hits"]

        reader(page["prepare"])
        assert "3 chunks were copied and verified" in reader(page["copy"]).err
        assert "0 chunks were copied and verified, 3 were already there" in reader(page["copy"]).err
        reader(page["switch"])
        compared = reader(page["compare"]).out.splitlines()
        assert compared[:2] == ["2", "2"]
        assert reader.shell("search 'When is the rent due?' --json").json["hits"] == before
        reader(page["save the context"])
        loaded = reader(page["load"]).out
        assert "unchanged  2      2" in loaded
        reader(page["on the hosts"])
        imported = {kb["id"]: kb["numberOfVectors"] for kb in reader.shell("kb list --json").json}
        assert imported[old_id] == 3
        reader(page["delete"])
        assert reader.shell("kb list --credentials old.json --json").json == []
        assert list(page)[-2:] == ["delete", "on the hosts"]


@pytest.fixture
def own_service(tmp_path: Path) -> Iterator[LiveService]:
    with running_service(tmp_path / "server") as service:
        yield service


def test_erase_a_persons_data_and_prove_it(tmp_path: Path, own_service: LiveService, keys: Path) -> None:
    page = blocks("erase-a-persons-data.md")
    folder, credentials = tmp_path / "folder", own_service.first_credentials
    reader = Reader(shell_in(folder), {"KB_ID": furnish(folder, credentials, keys, [])})
    write_credentials(folder / "credentials.json", credentials)
    write(
        folder / "letters",
        {
            "lovelace/1842.txt": "The Analytical Engine weaves algebraical patterns.\n",
            "lovelace/1843.txt": "I am working very hard for you.\n",
            "babbage/1842.txt": "The translation is to be printed in August.\n",
        },
    )
    reader(page["load"])
    assert reader(page["find"]).out.startswith("2\n")
    reader(page["before"])
    before = Manifest.read(folder / "before.manifest")
    stored = ciphertexts(credentials, reader.replaced["KB_ID"])
    reader(page["erase"])
    reader(page["prove"])
    after = Manifest.read(folder / "after.manifest")
    erased = set(stored) - set(ciphertexts(credentials, reader.replaced["KB_ID"]))
    assert len(erased) == 2, stored.keys()
    assert len(before) - len(after) == 2

    reader.shell.environment["XTRACE_DATA"] = str(own_service.folder)
    reader(page["on the host"])
    files = b"".join(path.read_bytes() for path in own_service.folder.glob("xtrace.db*"))
    contents = {chunk_id: stored[chunk_id].encode()[:60] for chunk_id in stored}
    assert {chunk_id for chunk_id in contents if contents[chunk_id] not in files} == erased

    del reader.shell.environment["XTRACE_KEY_FILE"]
    reader.shell.environment |= {"XTRACE_PASSPHRASE": PASSPHRASE, "XTRACE_DATA": ""}
    reader(page["a context of one person"])
    assert "August" in reader.shell("search 'When is it printed?' --kb babbage").out
    reader(page["destroy the context"])
    reader.shell("search printed").fails("context.json")


def ciphertexts(credentials: Credentials, kb_id: str) -> dict[int, str]:
    """The stored content of each chunk of a knowledge base."""
    with XTraceIntegration(
        credentials.org_id, credentials.api_key, credentials.admin_key, credentials.api_url
    ) as xtrace:
        (context,) = xtrace.get_ctx_for_kb(kb_id)
        found = xtrace.meta_search_paginated(kb_id, context, {}, ["chunk_content"])
    return {chunk["chunk_id"]: chunk["chunk_content"] for chunk in found.results}


@pytest.mark.parametrize("user", ["", "ada:secret-of-the-proxy"])
def test_behind_a_corporate_proxy(tmp_path: Path, user: str) -> None:
    page = blocks("behind-a-corporate-proxy.md")
    for name in ("server", "company", "proxy", "folder"):
        (tmp_path / name).mkdir()
    files, company = certificates(tmp_path / "server"), certificates(tmp_path / "company")
    with (
        running_service(tmp_path / "data", tls_certificate=files.server, tls_key=files.server_key) as service,
        corporate_proxy(
            tmp_path / "proxy", service.address[1], user=user, inspector=company, trusted=files.authority
        ) as proxy,
    ):
        reader = Reader(
            Terminal(tmp_path / "folder", {"HOME": str(tmp_path / "home")}),
            {"http://proxy.example.com:3128": proxy.url(user), "/etc/ssl/corporate-ca.pem": str(company.authority)},
        )
        credentials = service.first_credentials
        credentials.api_url = f"https://{HOST}"
        write_credentials(reader.shell.folder / "credentials.json", credentials)
        write(reader.shell.folder / "notes", {"lease.md": LEASE})
        for name, block in page.items():
            done = reader(block)
            assert user == "" or "secret-of-the-proxy" not in done.out + done.err, name
            if block.is_refused:
                assert "certificate verify failed" in done.err
        assert "The rent of 900 euros" in done.out
        wrong = proxy.url("ada:wrong") if user else "http://127.0.0.1:1"
        refused = reader.shell("kb list", HTTPS_PROXY=wrong)
        refused.fails("407" if user else "through the proxy http://127.0.0.1:1, which HTTPS_PROXY names")
        assert HOST in proxy.log.read_text()
