"""Records with the user's ids and metadata: `collection` is the public class, everything else supports it.

`record` defines input and output, `metadata` the JSON of a record, and `values` how JSON values compare. `where`
parses the filter language, `matching` evaluates it exactly, and `service_filter` derives the part that the service can
evaluate with the hashes of `tokens`. Only `contents`, `storage`, `upserting`, `updating` and `searching` use keys and
the service.
"""
