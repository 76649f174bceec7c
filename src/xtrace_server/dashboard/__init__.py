"""The dashboard: pages that the server renders, for administrators of organisations and for its operator.

A page decodes a request, calls an operation and renders a template. It stands on `operations` as the routes of the API
do. Every page works without script; `static/script.js` copies, writes local times and refreshes figures.
"""
