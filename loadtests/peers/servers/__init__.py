"""The peers' servers, each for an environment of its own; nothing of the service is imported."""
