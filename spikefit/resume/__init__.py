"""What a checkpoint stores and how a run continues from it, so that it equals an uninterrupted run."""
