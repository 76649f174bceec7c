"""The code for LangChain that the server's dashboard shows, with the ids of the organisation filled in, runs."""

import json
from pathlib import Path

from support.dashboard import Visitor, code_on
from support.frameworks import printed
from xtrace_server.credentials import read_credentials


def test_the_code_of_the_dashboard_answers(reader_folder: Path) -> None:
    credentials = read_credentials(reader_folder / "xtrace-data" / "credentials.json")
    visitor = Visitor(credentials.api_url)
    visitor.sign_in(credentials)
    code = code_on(visitor.get("/get-started").html, "python-langchain")
    visitor.close()
    secrets = {
        "XTRACE_API_KEY": credentials.api_key,
        "XTRACE_ADMIN_KEY": credentials.admin_key,
        "XTRACE_PASSPHRASE": "six words that only you know here",
    }
    settings = f"import json, os\nos.environ.update(json.loads({json.dumps(json.dumps(secrets))}))\n"
    assert printed(settings + code, reader_folder) == "The cat is asleep on the warm radiator.\n"
