"""The one training loop and what it stands on. It knows no task, no model and no dataset."""
