"""`xtrace local`: the local indexes of this machine."""

from xtrace_cli.groups import new_group
from xtrace_cli.output import Json, fields, note, show

app = new_group("local", "The local indexes of this machine: what they take, clear.")


@app.command()
def status(as_json: Json = False) -> None:
    """Print the folder of the local indexes, how many there are, and their size.

    Set XTRACE_LOCAL_INDEX to `auto`, `codes` or `replica` to keep one for each knowledge base that you search.
    """
    from xtrace_sdk.x_vec.local.folder import default_folder, indexes

    found = indexes(default_folder())
    result = {"folder": str(default_folder()), "indexes": len(found), "bytes": sum(one.size for one in found)}
    show(result, as_json, lambda: fields((name, str(value)) for name, value in result.items()))


@app.command()
def clear(as_json: Json = False) -> None:
    """Remove all local indexes. The next search of each knowledge base fetches its contents again."""
    from xtrace_sdk.x_vec.local.folder import default_folder, indexes, remove

    found = indexes(default_folder())
    for one in found:
        remove(one.path)
    result = {"cleared": len(found), "bytes": sum(one.size for one in found)}
    show(result, as_json, lambda: note(f"cleared {result['cleared']} local indexes, {result['bytes']} bytes"))
