"""The dashboard's cookies. Scripts cannot read them, and forms of other sites cannot make browsers send them."""

from typing import Final

from fastapi import Request, Response

from xtrace_server.settings import Settings

SESSION: Final = "xtrace-session"
OPERATOR: Final = "xtrace-operator"
VISITOR: Final = "xtrace-visitor"
"""A random value that binds the sign-in form to the browser to which it was sent."""
THEME: Final = "xtrace-theme"
_YEAR_S: Final = 365 * 86_400


def read_cookie(request: Request, settings: Settings, name: str) -> str | None:
    """Returns the value of a cookie of the dashboard; None if it is missing or empty."""
    return request.cookies.get(_full_name(settings, name)) or None


def set_cookie(response: Response, settings: Settings, name: str, value: str) -> None:
    """Sets a cookie of the dashboard until the browser is closed; the theme's for a year."""
    response.set_cookie(
        _full_name(settings, name),
        value,
        max_age=_YEAR_S if name == THEME else None,
        path="/",
        secure=_is_secure(settings),
        httponly=True,
        samesite="lax",
    )


def delete_cookie(response: Response, settings: Settings, name: str) -> None:
    """Deletes a cookie of the dashboard."""
    response.delete_cookie(
        _full_name(settings, name), path="/", secure=_is_secure(settings), httponly=True, samesite="lax"
    )


def _is_secure(settings: Settings) -> bool:
    return settings.dashboard_behind_tls or settings.tls_certificate is not None


def _full_name(settings: Settings, name: str) -> str:
    # Browsers accept this prefix only with `Secure` and from exactly this host: sibling domains cannot set one.
    return f"__Host-{name}" if _is_secure(settings) else name
