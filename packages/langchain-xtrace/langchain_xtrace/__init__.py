"""XTrace, the end-to-end encrypted vector database, for LangChain and LangGraph.

`XTraceVectorStore` stores documents in a `Collection` of xtrace_sdk, and `XTraceRetriever` finds them. `XTraceStore` in
`langchain_xtrace.langgraph` is the long-term memory of a LangGraph agent.
"""

from langchain_xtrace.retrievers import XTraceRetriever
from langchain_xtrace.vectorstores import XTraceVectorStore

__all__ = ["XTraceRetriever", "XTraceVectorStore"]
