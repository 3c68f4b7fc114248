"""One session with the server: how it is made, what is set in it, how long it waits for answers."""
