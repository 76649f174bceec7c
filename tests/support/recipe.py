"""The pages of docs/recipes, carried out as people type them: each block in its order, each person in a folder."""

import re
import shlex
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from support.terminal import Result, Terminal

RECIPES: Final = Path(__file__).parents[2] / "docs" / "recipes"
_BLOCK: Final = re.compile(
    r"<!-- (?P<how>run|refused): (?P<name>[^>]+) -->\n```sh\n(?P<code>.*?)```\n(?:```text\n(?P<out>.*?)```)?", re.DOTALL
)
_ASSIGNED: Final = re.compile(r"(\w+)=\$\((xtrace .*)\)")


@dataclass(frozen=True)
class Block:
    """Commands of a page, and what the last one prints if the page shows it; `…` stands for anything."""

    name: str
    code: str
    shown: str | None
    is_refused: bool

    def shows(self, printed: str) -> bool:
        """Whether this is what the page shows."""
        if self.shown is None:
            return True
        pattern = re.escape(self.shown.strip()).replace("…", ".*")
        return re.fullmatch(pattern, printed.strip()) is not None


def blocks(page: str) -> dict[str, Block]:
    """The blocks of the page, by their names; every block of commands on it must have one."""
    text = (RECIPES / page).read_text()
    found = {m["name"]: Block(m["name"], m["code"], m["out"], m["how"] == "refused") for m in _BLOCK.finditer(text)}
    assert len(found) == text.count("```sh"), f"a block of {page} is not run"
    return found


@dataclass
class Reader:
    """A person who types what the page says."""

    shell: Terminal
    replaced: dict[str, str] = field(default_factory=dict)
    """What the person types instead of the page's placeholders."""

    def __call__(self, block: Block) -> Result:
        """Carries out a block; returns the result of all its commands together, which did what the page says."""
        results = [done for line in block.code.splitlines() if (done := self._line(line)) is not None]
        status, out, err = 0, "", ""
        for one in results:
            status, out, err = one.status, out + one.out, err + one.err
        whole = Result(status, out, err)
        assert all((one.status != 0) == block.is_refused for one in results), results
        assert block.shows(whole.out), whole.out
        return whole

    def _line(self, line: str) -> Result | None:
        for name, value in self.replaced.items():
            line = line.replace(name, value)
        if assigned := _ASSIGNED.fullmatch(line):
            line = assigned[2]
        done = self._command(line)
        if assigned and done is not None:
            self.replaced[f"${assigned[1]}"] = done.text
        return done

    def _command(self, line: str) -> Result | None:
        first, *words = shlex.split(line)
        match first:
            case "xtrace":
                return self.shell(line.removeprefix("xtrace "))
            case "export":
                self.shell.environment |= dict(word.split("=", 1) for word in words)
            case "rm":
                for word in words:
                    (self.shell.folder / word).unlink()
            case "mkdir":
                (self.shell.folder / words[0]).mkdir()
            case "cd":
                self.shell.folder = (self.shell.folder / words[0]).resolve()
            case "cp":
                shutil.copy(self.shell.folder / words[0], self.shell.folder / words[1])
            case _:
                raise AssertionError(f"a recipe has the unknown command {first}")
        return None
