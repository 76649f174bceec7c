"""`xtrace xvec`: the records of a knowledge base. `retrieve` and `query` are `xtrace search`."""

from xtrace_cli.commands.search import search
from xtrace_cli.groups import new_group

app = new_group("xvec", "Records of a knowledge base: search, read, write, delete, count.")
app.command("retrieve")(search)
app.command("query")(search)
