"""The page that runs the network in a browser, and the server that shows it on this computer."""
