"""Client: the SDK and the command line; speaks to a server over HTTP and never loads one."""
