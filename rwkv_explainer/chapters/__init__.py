"""One room for each chapter, named like its notebook: `figures` and `exercises`."""
