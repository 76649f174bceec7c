"""Records with ids and metadata of the user's own: `collection` is the front door, everything else here serves it.

`record` has what goes in and comes out, `metadata` any JSON as a record holds it, `values` how JSON values compare.
`where` parses the filter language, `matching` decides it exactly, `service_filter` gives the part of it that the
service can answer from the hashes of `tokens`. Only `contents`, `storage`,
`upserting`, `updating` and `searching` know keys and the service.
"""
