"""Tables, statistics, pictures and the page of a benchmark, from plain records."""
