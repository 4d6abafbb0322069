"""The protocol over HTTP: routes, cheap checks, one transaction for each request, typed answers."""
