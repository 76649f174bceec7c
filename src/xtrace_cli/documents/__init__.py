"""Reading files and splitting their text into chunks."""
