"""HTTP with retries, deadlines and limits; shared by the client of the service and the clients of model APIs."""
