"""Parts of `search_replay.py`: recorded curves, the policies that decide over them, and their regret."""
