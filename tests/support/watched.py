"""A connection that keeps what a client sends, and can be cut."""

import httpx2


class Watched(httpx2.AsyncBaseTransport):
    """The network, with the path and body of every request kept; it can be cut."""

    def __init__(self) -> None:
        self._network = httpx2.AsyncHTTPTransport()
        self.requests: list[tuple[str, bytes]] = []
        self.is_cut = False

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        if self.is_cut:
            raise httpx2.ConnectError("cut")
        path = request.url.path.removeprefix("/v1/")
        self.requests.append((f"{request.method} {path}?{request.url.query.decode()}", await request.aread()))
        return await self._network.handle_async_request(request)

    async def aclose(self) -> None:
        await self._network.aclose()

    def taken(self) -> list[tuple[str, bytes]]:
        taken, self.requests = self.requests, []
        return taken
