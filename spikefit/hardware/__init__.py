"""Chips: what they can hold, what a network needs of them, where its neurons go, and their energy."""
