"""`XTraceIntegration`, under the name that programs import; it is defined in `xtrace_sdk.service.integration`."""

from xtrace_sdk.service.counts import ChunkCount
from xtrace_sdk.service.integration import ChunkChanges, HammingAnswer, MetaDataPage, Retries, XTraceIntegration

__all__ = ["ChunkChanges", "ChunkCount", "HammingAnswer", "MetaDataPage", "Retries", "XTraceIntegration"]
