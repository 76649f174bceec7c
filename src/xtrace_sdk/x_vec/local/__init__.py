"""The local index: a sealed copy of a knowledge base in a folder of the user's, searched without asking the service."""
