"""A topic of an MQTT broker as a signal: each message is a value."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from urllib.parse import unquote, urlsplit

from pleb_agent.core.sentence import say
from pleb_agent.signals.read import SignalError, number_in, read_token

if TYPE_CHECKING:
    from collections.abc import Callable

    from paho.mqtt.client import Client, MQTTMessage

    from pleb_agent.core.sentence import Sentence
    from pleb_agent.core.signals import Signal

__all__ = ["MqttTopic"]

_PORTS: Final = {"mqtt": 1883, "mqtts": 8883}
_KEEP_ALIVE_SECONDS: Final = 60
_LEAST_DELAY_SECONDS, _MOST_DELAY_SECONDS = 1, 30


class MqttTopic:
    """Listens to one topic in a thread of paho's, and connects again by itself.

    Called in that thread: `on_value` with each number, `on_problem` with why there is none.
    """

    def __init__(
        self,
        signal: Signal,
        on_value: Callable[[float], None],
        on_problem: Callable[[Sentence], None],
        hour: Callable[[], int],
    ) -> None:
        self._signal = signal
        self._on_value = on_value
        self._on_problem = on_problem
        self._hour = hour
        self._parts = urlsplit(signal.address)
        self._where = self._parts.netloc.rpartition("@")[2]
        self._client: Client | None = None

    def start(self) -> None:
        """Connect, now and whenever the connection is lost.

        Raises:
            SignalError: the password cannot be read.
        """
        # 0.5 MB, which only those pay who use it.
        from paho.mqtt.client import Client
        from paho.mqtt.enums import CallbackAPIVersion

        client = Client(CallbackAPIVersion.VERSION2)
        if self._parts.username:
            password = read_token(self._signal.token_file) if self._signal.token_file else None
            client.username_pw_set(unquote(self._parts.username), password)
        if self._parts.scheme == "mqtts":
            client.tls_set()
        client.reconnect_delay_set(_LEAST_DELAY_SECONDS, _MOST_DELAY_SECONDS)
        client.on_connect = self._connected
        client.on_connect_fail = lambda *_: self._on_problem(self._unreachable())
        client.on_disconnect = self._disconnected
        client.on_message = self._message
        host, port = self._parts.hostname or "", self._parts.port
        client.connect_async(host, port or _PORTS[self._parts.scheme], _KEEP_ALIVE_SECONDS)
        self._client = client
        client.loop_start()

    def stop(self) -> None:
        """Disconnect."""
        if self._client is not None:
            self._client.on_disconnect = None
            self._client.disconnect()
            self._client.loop_stop()

    def _unreachable(self) -> Sentence:
        return say("The broker {where} does not answer; check its address.", where=self._where)

    def _connected(
        self, client: Client, _: object, __: object, reason: object, ___: object
    ) -> None:
        if getattr(reason, "is_failure", False):
            sentence = say(
                "The broker {where} refuses the connection ({reason}).",
                where=self._where,
                reason=str(reason),
            )
            self._on_problem(sentence)
            return
        client.subscribe(unquote(self._parts.path.lstrip("/")))

    def _disconnected(self, *arguments: object) -> None:
        reason = arguments[3] if len(arguments) > 3 else ""
        if getattr(reason, "is_failure", True):
            self._on_problem(self._unreachable())

    def _message(self, _: object, __: object, message: MQTTMessage) -> None:
        try:
            value = number_in(bytes(message.payload), self._signal.pointer, self._hour())
        except SignalError as error:
            self._on_problem(error.sentence)
            return
        self._on_value(value)
