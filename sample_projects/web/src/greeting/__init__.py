"""A web service that greets whoever asks."""
