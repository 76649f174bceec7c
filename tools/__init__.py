"""Programs that write source code or pages."""
