"""What the documentation's site contains besides docs/; `mkdocs.yml` names `hooks`."""
