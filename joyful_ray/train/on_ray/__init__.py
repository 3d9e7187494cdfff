"""The workers of a run on Ray: how they start, what they do, and what happens where they are lost."""
