"""Where the LLM's knowledge comes from: a vector for each face, one kind of teacher a file."""
