"""The dashboard: pages that the server renders, for administrators of organisations and for its operator.

A page decodes a request, calls an operation and renders a template. Like the routes of the API, it only uses
`operations`. Every page works without JavaScript; `static/script.js` copies, shows local times and refreshes figures.
"""
