"""Features of a stream's images: `tasks` gives them task by task, `cache` computes once what no longer changes."""
