"""Parts of `search_replay.py`: recorded curves, who decides over them, and what that is worth."""
