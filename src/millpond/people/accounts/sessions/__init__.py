"""Sessions: the browsers and programs that somebody is signed in with."""
