"""Knowledge bases, API keys and permissions over HTTP."""

from support.service import Http, LiveService, chunk, ok, problem

POSTGRES_BY_DEFAULT = True


def test_knowledge_bases_are_created_listed_and_deleted(http: Http) -> None:
    made = ok(http.control("POST", "/kbs", json={"name": "n", "description": "d"}))
    assert set(made) == {"id", "name", "description", "numberOfVectors", "createdAt", "updatedAt"}
    assert (made["name"], made["description"], made["numberOfVectors"]) == ("n", "d", 0)
    assert ok(http.control("GET", "/kbs")) == [made]
    http.save_context()
    http.insert(made["id"], [chunk(), chunk()])
    assert ok(http.control("GET", f"/kbs/{made['id']}"))["numberOfVectors"] == 2
    ok(http.control("DELETE", f"/kbs/{made['id']}"))
    problem(http.control("GET", f"/kbs/{made['id']}"), 404, "knowledge_base_not_found")
    problem(http.control("DELETE", f"/kbs/{made['id']}"), 404, "knowledge_base_not_found")
    assert ok(http.control("GET", "/kbs")) == []
    ok(http.data("DELETE", "/exec_context/{org}/ctx"))  # no chunk uses it any more
    for bad in ({}, {"name": ""}, {"name": 3}, {"name": "a\0"}):
        problem(http.control("POST", "/kbs", json=bad), 422, "invalid")


def test_a_key_is_shown_once_and_listed_by_its_hash(http: Http) -> None:
    made = ok(http.control("POST", "/keys", json={"name": "n", "description": "d"}))
    shown = made["apiKey"]
    assert set(shown) == {"hash", "firstN", "name", "description", "createdAt", "lastUsedAt", "expiresAt"}
    assert shown["firstN"] == made["secretKey"][:5]
    assert shown["lastUsedAt"] is None
    listed = ok(http.control("GET", "/keys"))
    assert [key["name"] for key in listed] == ["default", "n"]
    assert made["secretKey"] not in str(listed)
    for how, path in (("DELETE", ""), ("PATCH", "/status/revoke")):
        made = ok(http.control("POST", "/keys", json={"name": "gone"}))
        mine = {"x-api-key": made["secretKey"]}
        ok(http.data("GET", "/exec_context/{org}", headers=mine))
        ok(http.control(how, f"/keys/{made['apiKey']['hash']}{path}"))
        problem(http.data("GET", "/exec_context/{org}", headers=mine), 401, "unauthenticated")
        ok(http.control(how, f"/keys/{made['apiKey']['hash']}{path}"))
    assert [key["name"] for key in ok(http.control("GET", "/keys"))] == ["default", "n"]
    problem(http.control("DELETE", "/keys/unknown"), 404, "key_not_found")


def test_permissions_are_none_until_granted(http: Http) -> None:
    first, second = http.new_kb(), http.new_kb()
    made = ok(http.control("POST", "/keys", json={"name": "n"}))
    of_key = f"/keys/{made['apiKey']['hash']}/permissions"
    assert ok(http.control("GET", of_key)) == []
    ok(http.control("PUT", f"{of_key}/{first}", json={"permission": 1}))
    ok(http.control("PUT", f"{of_key}/{second}", json={"permission": 7}))
    ok(http.control("PUT", f"{of_key}/{second}", json={"permission": 3}))
    assert ok(http.control("GET", of_key)) == [
        {"knowledgeBaseId": first, "permission": 1},
        {"knowledgeBaseId": second, "permission": 3},
    ]
    ok(http.control("PUT", f"{of_key}/{first}", json={"permission": 0}))
    assert [one["knowledgeBaseId"] for one in ok(http.control("GET", of_key))] == [second]
    for bad in (2, 5, 8, -1, "7", None, True):
        problem(http.control("PUT", f"{of_key}/{first}", json={"permission": bad}), 422, "invalid")
    problem(http.control("PUT", f"{of_key}/x", json={"permission": 1}), 404, "knowledge_base_not_found")
    problem(http.control("PUT", f"/keys/x/permissions/{first}", json={"permission": 1}), 404, "key_not_found")
    problem(http.control("GET", "/keys/x/permissions"), 404, "key_not_found")


def test_the_first_key_may_do_everything_until_told_otherwise(http: Http) -> None:
    kb = http.new_kb()
    (first,) = ok(http.control("GET", "/keys"))
    of_key = f"/keys/{first['hash']}/permissions"
    assert ok(http.control("GET", of_key)) == [{"knowledgeBaseId": kb, "permission": 7}]
    ok(http.control("PUT", f"{of_key}/{kb}", json={"permission": 0}))
    params = {"kb_id": kb, "chunk_ids": 1}
    problem(http.data("GET", "/chunk/{org}", params=params), 403, "forbidden")


def test_organisations_do_not_see_each_other(http: Http, live_service: LiveService) -> None:
    other = Http(live_service.new_organisation())
    kb = other.new_kb()
    missing = problem(http.control("GET", "/kbs/x" + kb[1:]), 404, "knowledge_base_not_found")
    foreign = problem(http.control("GET", f"/kbs/{kb}"), 404, "knowledge_base_not_found")
    assert foreign.replace(kb, "") == missing.replace("x" + kb[1:], "")
    assert ok(http.control("GET", "/kbs")) == []
    (key,) = ok(other.control("GET", "/keys"))
    problem(http.control("DELETE", f"/keys/{key['hash']}"), 404, "key_not_found")
    other.save_context("theirs")
    problem(http.data("GET", "/exec_context/{org}/theirs"), 404, "context_not_found")
    other.close()


def test_a_list_can_include_what_is_being_deleted(http: Http) -> None:
    made = ok(http.control("POST", "/kbs", json={"name": "n"}))
    ok(http.control("DELETE", f"/kbs/{made['id']}"))
    assert ok(http.control("GET", "/kbs")) == []
    while found := ok(http.control("GET", "/kbs", params={"include": "deleting"})):
        # Until it has gone, it is shown with the moment of its deletion.
        (listed,) = found
        assert listed.pop("deletedAt") >= listed["updatedAt"]
        assert listed == made
    for bad in ({"include": "everything"}, {"include": ["deleting", "deleting"]}):
        problem(http.control("GET", "/kbs", params=bad), 422, "invalid")
