"""What several tests use: clients, copies of models, and services that misbehave."""
