"""Makes a program a plugin: the handshake, the manifest and the one session.

The host starts the program with an environment of its own and a pipe on
descriptor 3, the lifeline: when that closes the process ends at once. The program
listens on a Unix socket, prints where on stdout, and serves sluice.plugin.v1.Plugin.

Threads: gRPC's one reads frames and never waits for the author's code; one thread
applies changes of the mirror and makes the serial calls in their order; other
calls have a thread each, from a small pool.
"""

import concurrent.futures
import logging
import os
import queue
import signal
import sys
import tempfile
import threading
import time
import traceback

import grpc

from . import errors, jobsubmit, mirror, option, priority, sched
from .wire import plugin_pb2

_COOKIE = ("SLUICE_PLUGIN", "session-v1")
_LIFELINE = 3
_FRAME = 512 << 10   # bytes of a payload in one frame
_PAYLOAD = 256 << 20  # most that a call may carry
_KINDS = {"sched": sched, "priority": priority, "job_submit": jobsubmit}

Option = option.Option


class Plugin:
    """What a program serves. Each of sched, priority and job_submit is called with the
    options' values, as keyword arguments, when the host opens the plugin, and returns
    the author's object; ValueError refuses to serve."""

    def __init__(self, name="", version="0.1.0", doc="", options=(), sched=None, priority=None, job_submit=None):
        made = {"sched": sched, "priority": priority, "job_submit": job_submit}
        self.made = {kind: make for kind, make in made.items() if make is not None}
        self.name, self.version, self.doc, self.options = name, version, doc, list(options)
        if not name:
            program = os.path.basename(sys.argv[0])
            self.name = program
            for kind in self.made:
                if program.startswith(kind + "_"):
                    self.name = program[len(kind) + 1:]

    def manifest(self):
        return plugin_pb2.ManifestReply(
            name=self.name, version=self.version, doc=self.doc,
            served=[plugin_pb2.Served(kind=k, contracts=_KINDS[k].CONTRACTS) for k in self.made],
            options=[plugin_pb2.Option(name=o.name, type=o.type, unit=o.unit, default=o.default, doc=o.doc, allowed=o.allowed)
                     for o in self.options])

    def open(self, o):
        """The handlers by kind; ValueError says why not."""
        values = option.parse(self.options, o.options)
        for kind, version in o.contracts.items():
            if kind in self.made and version not in _KINDS[kind].CONTRACTS:
                raise ValueError(f"the host speaks version {version} of the kind {kind}, this plugin speaks {_KINDS[kind].CONTRACTS}")
        return {kind: _KINDS[kind].Handler(make(**values)) for kind, make in self.made.items()}


class Call:
    """A call under way."""

    def __init__(self, frame):
        self.id, self.kind, self.method = frame.id, frame.kind, frame.method
        self.payload = b""
        self.deadline = time.monotonic() + frame.deadline_ms / 1000 if frame.deadline_ms else None
        self.cancelled = False

    def ended(self):
        """True once nobody waits for the answer any more, or its time is over."""
        return self.cancelled or self.deadline is not None and time.monotonic() > self.deadline

    def decode(self, message):
        try:
            return message.FromString(self.payload)
        except Exception as e:
            raise errors.Error(errors.INTERNAL, f"payload of {len(self.payload)} bytes: {e}") from None


class _Session:
    def __init__(self, plugin, epoch):
        self.plugin, self.epoch = plugin, epoch
        self.handlers, self.calls = {}, {}
        self.mirror = mirror.Mirror()
        self.out = queue.Queue()     # frames to the host; None ends the session
        self.serial = queue.Queue()  # work of the serial thread
        self.pool = concurrent.futures.ThreadPoolExecutor(max_workers=8)
        self.running = 0
        self.idle = threading.Condition()

    def send(self, **body):
        self.out.put(plugin_pb2.PluginFrame(epoch=self.epoch, **body))

    def run(self, frames):
        """Reads the host's frames until the session ends; a thread of its own."""
        try:
            for f in frames:
                if f.epoch != self.epoch:
                    continue
                body = f.WhichOneof("body")
                if body == "state":
                    self._state(f.state.payload)
                elif body == "call":
                    self._arrive(f.call)
                elif body == "cancel" and f.cancel.id in self.calls:
                    self.calls[f.cancel.id].cancelled = True
                elif body == "drain":
                    with self.idle:
                        self.idle.wait_for(lambda: self.running == 0)
                    break
        except grpc.RpcError:
            pass  # the host is gone
        self.serial.put(None)
        self.out.put(None)

    def _synced(self, resend=False):
        self.send(synced=plugin_pb2.Synced(rev=self.mirror.state.rev, digest=self.mirror.state.digest, resend=resend))

    def _state(self, payload):
        if payload:
            self.serial.put(lambda: self._apply(payload))
        else:
            self._synced()  # a health check

    def _apply(self, payload):
        try:
            if self.mirror.apply(payload):
                self._synced()
        except mirror.Lost as e:
            logging.warning("mirror lost, asking for a snapshot: %s", e)
            self._synced(resend=True)

    def _arrive(self, c):
        call = self.calls.setdefault(c.id, None) or Call(c)
        self.calls[c.id] = call
        if len(call.payload) + len(c.payload) > _PAYLOAD:
            self._answer(call, error=errors.Error(errors.INTERNAL, "the call's payload is too long"))
            return
        call.payload += c.payload
        if c.more:
            return
        handler = self.handlers.get(call.kind)
        if handler is None:
            self._answer(call, error=errors.Error(errors.UNSUPPORT, f"this plugin does not serve the kind {call.kind}"))
            return
        with self.idle:
            self.running += 1
        if handler.serial:
            self.serial.put(lambda: self._make(handler, call))
        else:
            self.pool.submit(self._make, handler, call)

    def _make(self, handler, call):
        try:
            if call.ended():
                raise errors.Error(errors.DEADLINE, "its time ended while it waited")
            self._answer(call, payload=handler.serve(call, self._view).SerializeToString())
        except errors.Error as e:
            self._answer(call, error=e)
        except Exception as e:
            logging.error("%s.%s failed: %s", call.kind, call.method, traceback.format_exc())
            self._answer(call, error=errors.Error(errors.INTERNAL, f"{type(e).__name__}: {e}"))
        finally:
            with self.idle:
                self.running -= 1
                self.idle.notify_all()

    def _view(self, rev, now):
        if self.mirror.lost:
            raise errors.Error(errors.STATE, "the mirror missed a change and needs a snapshot")
        if rev and rev != self.mirror.state.rev:
            raise errors.Error(errors.STATE, f"the mirror is at rev {self.mirror.state.rev}, the call is for rev {rev}")
        return mirror.View(self.mirror.state, now)

    def _answer(self, call, payload=b"", error=None):
        self.calls.pop(call.id, None)
        failure = None
        if error is not None:
            failure = plugin_pb2.CallError(kind=error.kind, code=error.code, text=error.text, details=error.lines)
        pieces = [payload[i:i + _FRAME] for i in range(0, len(payload), _FRAME)] or [b""]
        for piece in pieces[:-1]:
            self.send(reply=plugin_pb2.Reply(id=call.id, payload=piece, more=True))
        self.send(reply=plugin_pb2.Reply(id=call.id, payload=pieces[-1], error=failure))

    def work(self):
        """The serial thread."""
        while (do := self.serial.get()) is not None:
            do()


class _Logs(logging.Handler):
    """Sends log records to the host; they appear in the daemon's log."""

    session = None

    def emit(self, record):
        if self.session is not None:
            level = (record.levelno - logging.INFO) * 4 // 10  # slog's numbers
            self.session.send(log=plugin_pb2.Log(level=level, message=record.getMessage()))


class _Server:
    def __init__(self, plugin, logs):
        self.plugin, self.logs = plugin, logs
        self.lock, self.opened = threading.Lock(), False
        self.ended = threading.Event()

    def manifest(self, request, context):
        return self.plugin.manifest()

    def session(self, frames, context):
        with self.lock:
            if self.opened:
                context.abort(grpc.StatusCode.FAILED_PRECONDITION, "this plugin process has served its session")
            self.opened = True
        first = next(frames)
        s = _Session(self.plugin, first.epoch)
        try:
            s.handlers = self.plugin.open(first.open)
        except Exception as e:
            yield plugin_pb2.PluginFrame(epoch=s.epoch, opened=plugin_pb2.Opened(error=str(e) or type(e).__name__))
            return
        yield plugin_pb2.PluginFrame(epoch=s.epoch, opened=plugin_pb2.Opened())
        self.logs.session = s
        threading.Thread(target=s.work, daemon=True).start()
        threading.Thread(target=s.run, args=(frames,), daemon=True).start()
        while (f := s.out.get()) is not None:
            yield f
        self.logs.session = None


def _watch_lifeline():
    try:
        while os.read(_LIFELINE, 4096):
            pass
    finally:
        os._exit(0)


def _usage(plugin):
    for kind in plugin.made:
        print(f"This is {kind}/{plugin.name} {plugin.version}, a plugin of Sluice. {plugin.doc}", file=sys.stderr)
    for o in plugin.options:
        print(f'  {o.name} ({o.type}, default "{o.default}"): {o.doc} {o.allowed}', file=sys.stderr)
    print("A daemon starts it: name it in slurm.conf. To check it: sluice plugin test FILE.", file=sys.stderr)
    sys.exit(1)


def serve(plugin):
    """Makes the program a plugin. It does not return: the process ends when the host
    ends it, or with status 1 and a text for people when it was started by hand."""
    if os.environ.get(_COOKIE[0]) != _COOKIE[1]:
        _usage(plugin)
    if os.environ.get("PLUGIN_CLIENT_CERT"):
        sys.exit("this library speaks over the host's private socket only, not with AutoMTLS")
    os.set_inheritable(_LIFELINE, False)
    for s in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(s, lambda *_: None)  # the host decides when a plugin ends
    threading.Thread(target=_watch_lifeline, daemon=True).start()
    logs = _Logs()
    logging.basicConfig(level=logging.DEBUG, handlers=[logs])
    s = _Server(plugin, logs)
    server = grpc.server(concurrent.futures.ThreadPoolExecutor(max_workers=4), options=[
        ("grpc.max_receive_message_length", 4 << 20), ("grpc.max_send_message_length", 4 << 20)])
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("sluice.plugin.v1.Plugin", {
        "Manifest": grpc.unary_unary_rpc_method_handler(
            s.manifest, plugin_pb2.ManifestRequest.FromString, plugin_pb2.ManifestReply.SerializeToString),
        "Session": grpc.stream_stream_rpc_method_handler(
            s.session, plugin_pb2.HostFrame.FromString, plugin_pb2.PluginFrame.SerializeToString),
    }),))
    folder = os.environ.get("PLUGIN_UNIX_SOCKET_DIR") or tempfile.mkdtemp()
    path = os.path.join(folder, f"plugin{os.getpid()}")
    server.add_insecure_port("unix:" + path)
    server.start()
    print(f"1|1|unix|{path}|grpc|", flush=True)
    os.dup2(2, 1)  # what the author prints is logged, too
    while True:
        signal.pause()
