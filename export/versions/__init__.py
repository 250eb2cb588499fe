"""Version folders of models: built, read, put together to ensembles, and proved again."""
