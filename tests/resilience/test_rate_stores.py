"""Two servers that have a Redis in common: rates, quotas of requests and failed sign-ins hold for both together."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx2
import pytest

from support import databases
from support.dashboard import Page, Visitor
from support.databases import database_settings
from support.redis_server import NEEDED, RedisServer
from support.server_process import ServerProcess
from support.service import Http, ok, problem
from xtrace_core.wire import OPERATOR_KEY_HEADER
from xtrace_server.auth.keys import new_key
from xtrace_server.credentials import OPERATOR_FILE, read_operator_credentials

DATABASES = (databases.SQLITE, databases.POSTGRES)
pytestmark = [NEEDED, pytest.mark.usefixtures("database"), pytest.mark.full]


@dataclass
class Pair:
    """Two servers over one database, and a client at each."""

    redis: RedisServer
    urls: list[str]
    both: list[Http]
    operator_key: str

    def set_quota(self, **quotas: int) -> None:
        """Changes the organisation's quotas, as the operator does."""
        address = f"{self.urls[0]}/api/v1/operator/organisations/{self.both[0].org}/quotas"
        headers = {OPERATOR_KEY_HEADER: self.operator_key}
        ok(httpx2.patch(address, headers=headers, json=quotas, timeout=60))


@pytest.fixture
def pair(tmp_path: Path, unused_tcp_port_factory: Callable[[], int], database: str) -> Iterator[Pair]:
    redis = RedisServer(unused_tcp_port_factory())
    redis.start()
    folders = [tmp_path / "one", tmp_path / ("one" if database == databases.SQLITE else "two")]
    settings = {**database_settings(folders[0]), "rate_store": redis.url, "dashboard_sign_ins": 3, "shared": True}
    servers = [
        ServerProcess(folder, port=unused_tcp_port_factory(), rate_limit="12/hour", **settings) for folder in folders
    ]
    for server in servers:
        server.start()
    clients = []
    for server in servers:
        (credentials := servers[0].credentials).api_url = server.url
        clients.append(Http(credentials))
    key = read_operator_credentials(folders[0] / OPERATOR_FILE).operator_key
    yield Pair(redis, [server.url for server in servers], clients, key)
    for client in clients:
        client.close()
    for server in servers:
        assert server.terminate() == 0
    redis.kill()


def call(http: Http) -> httpx2.Response:
    return http.data("GET", "/exec_context/{org}")


def test_a_rate_holds_for_both_together(pair: Pair) -> None:
    answers = [call(http) for http in pair.both * 10]
    assert [answer.status_code for answer in answers] == [200] * 12 + [429] * 8
    assert 0 < int(answers[-1].headers["retry-after"]) <= 7200


def test_a_quota_of_requests_is_exact_at_both_and_what_is_refused_does_not_count(pair: Pair) -> None:
    pair.set_quota(requestsPerDay=7)
    answers = [call(http) for http in pair.both * 5]
    assert [answer.status_code for answer in answers] == [200] * 7 + [403] * 3
    problem(answers[-1], 403, "quota_exceeded")
    pair.set_quota(requestsPerDay=9)
    assert [call(http).status_code for http in pair.both] == [200, 200]


def test_failed_sign_ins_count_at_both_and_none_is_let_in_uncounted(pair: Pair) -> None:
    credentials = pair.both[0].credentials

    def sign_in(url: str, key: str) -> Page:
        visitor = Visitor(url)
        answer = visitor.send("/sign-in", "/sign-in", organisation=credentials.org_id, key=key)
        visitor.close()
        return answer

    for url in [*pair.urls, pair.urls[0]]:
        assert "is not correct" in sign_in(url, new_key()).text
    for url in pair.urls:
        assert "3 sign-ins from your address failed" in sign_in(url, credentials.admin_key).text
    pair.redis.kill()
    # Requests go on, by what each server counts itself. Signing in does not.
    assert [call(http).status_code for http in pair.both] == [200, 200]
    assert [sign_in(url, credentials.admin_key).status for url in pair.urls] == [503] * 2
    pair.redis.start()
