"""The base model that ships: package data, see the model card."""
