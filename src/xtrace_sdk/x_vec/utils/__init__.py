"""The execution context, under the name that programs import."""
