"""The key providers, under the name that programs import."""
