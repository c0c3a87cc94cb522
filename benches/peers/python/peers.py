"""The two systems that are measured through Python, and the program that measures them.

Two processes, each pinned to a CPU: this one leads and takes the time, its child follows. Orders come as JSON, one a line, on standard
input, and the answers go out the same way. The messages are bytes that begin and end with their number.

multiprocessing.Queue is used as its documentation shows. The ring is of the kind that Python programs build for themselves: slots in
shared memory, one cursor per reader, and the semaphores of multiprocessing around everything; it is lossless, and a reader that finds
nothing waits on a condition.
"""

import ctypes
import json
import multiprocessing
import os
import signal
import struct
import sys
import time
from multiprocessing import shared_memory

context = multiprocessing.get_context("fork")
NUMBER = struct.Struct("<Q")


def mark(message, number):
    NUMBER.pack_into(message, 0, number)
    if len(message) >= 16:
        NUMBER.pack_into(message, len(message) - 8, number)


def check(message, size, number):
    if len(message) != size or NUMBER.unpack_from(message, 0)[0] != number:
        raise RuntimeError(f"message {number} arrived damaged, or another one")
    if size >= 16 and NUMBER.unpack_from(message, size - 8)[0] != number:
        raise RuntimeError(f"message {number} arrived damaged at its end")


class Queue:
    """One multiprocessing.Queue per reader: the queue hands each message to one of them only."""

    def __init__(self, name, size, depth, readers):
        self.queues = [context.Queue(depth) for _ in range(readers)]

    def send(self, message):
        data = bytes(message)
        for each in self.queues:
            each.put(data)

    def receive(self, reader):
        return self.queues[reader].get()

    def close(self):
        for each in self.queues:
            each.cancel_join_thread()
            each.close()

    def shared_bytes(self):
        return None


class Ring:
    """Slots in shared memory under a lock and two conditions."""

    def __init__(self, name, size, depth, readers):
        self.size, self.depth, self.readers = size, depth, readers
        self.memory = shared_memory.SharedMemory(name=name, create=True, size=depth * (size + 8))
        self.lock = context.Lock()
        self.news = context.Condition(self.lock)
        self.room = context.Condition(self.lock)
        self.head = context.RawValue(ctypes.c_uint64, 0)
        self.cursors = context.RawArray(ctypes.c_uint64, readers)

    def send(self, message):
        with self.lock:
            head = self.head.value
            while head - min(self.cursors) >= self.depth:
                self.room.wait(1)
            start = head % self.depth * (self.size + 8)
            NUMBER.pack_into(self.memory.buf, start, len(message))
            self.memory.buf[start + 8 : start + 8 + len(message)] = message
            self.head.value = head + 1
            self.news.notify_all()

    def receive(self, reader):
        with self.lock:
            cursor = self.cursors[reader]
            while self.head.value == cursor:
                self.news.wait(1)
            start = cursor % self.depth * (self.size + 8)
            length = NUMBER.unpack_from(self.memory.buf, start)[0]
            message = bytes(self.memory.buf[start + 8 : start + 8 + length])
            self.cursors[reader] = cursor + 1
            self.room.notify_all()
        return message

    def close(self):
        self.memory.close()
        self.memory.unlink()

    def shared_bytes(self):
        return self.memory.size


class Job:
    """A channel, and for ping-pong one back, with a child that follows."""

    def __init__(self, order, cpu):
        kind = {"python-queue": Queue, "python-ring": Ring}[order["system"]]
        self.size, self.readers, self.kind = order["bytes"], order["readers"], order["kind"]
        start = time.perf_counter_ns()
        self.out = kind(order["name"], self.size, order["depth"], self.readers)
        self.create_ns = time.perf_counter_ns() - start
        self.back = kind(order["name"] + "-back", self.size, order["depth"], 1) if self.kind == "ping-pong" else None
        self.message = bytearray(b"\x5a" * self.size)
        self.number = 0
        here, there = context.Pipe()
        self.orders = here
        self.child = context.Process(target=self.follow, args=(there, here, cpu), daemon=True)
        self.child.start()
        there.close()
        here.recv()

    def follow(self, orders, other_side, cpu):
        # Otherwise the end of the leading process would go unnoticed.
        other_side.close()
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        os.sched_setaffinity(0, {cpu})
        orders.send(None)
        number = 0
        while True:
            try:
                order = orders.recv()
            except EOFError:
                return
            if order is None:
                return
            count, answered = order
            orders.send(None)
            for _ in range(count):
                for reader in range(self.readers):
                    check(self.out.receive(reader), self.size, number)
                if self.back is not None:
                    mark(self.message, number)
                    self.back.send(self.message)
                elif answered:
                    orders.send(None)
                number += 1
            orders.send(None)

    def turn(self, count, answered, nap):
        """Nanoseconds of each message if they are answered or returned, else of all of them."""
        self.orders.send((count, answered))
        self.orders.recv()
        times = []
        start = time.perf_counter_ns()
        for _ in range(count):
            if nap:
                time.sleep(nap)
                start = time.perf_counter_ns()
            mark(self.message, self.number)
            self.out.send(self.message)
            if self.back is not None:
                check(self.back.receive(0), self.size, self.number)
            elif answered:
                self.orders.recv()
            if self.back is not None or answered:
                now = time.perf_counter_ns()
                times.append(now - start)
                start = now
            self.number += 1
        sent = time.perf_counter_ns() - start
        self.orders.recv()
        total = time.perf_counter_ns() - start
        return {"times": times or [total], "sent": sent}

    def close(self):
        # Said in so many words: children that were started later have the other end of the pipe open too.
        self.orders.send(None)
        self.orders.close()
        self.child.join(5)
        if self.child.is_alive():
            self.child.kill()
            self.child.join()
        self.out.close()
        if self.back is not None:
            self.back.close()


def perform(jobs, order, cpu):
    if order["do"] == "open":
        job = jobs[order["id"]] = Job(order, cpu)
        return {"create_ns": job.create_ns, "shared_bytes": job.out.shared_bytes()}
    if order["do"] == "close":
        jobs.pop(order["id"]).close()
        return {}
    return jobs[order["id"]].turn(order["count"], order["answered"], order["nap"])


def main():
    own, other = int(sys.argv[1]), int(sys.argv[2])
    # A terminal sends Ctrl-C to everybody; the program that gives the orders decides what follows.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.sched_setaffinity(0, {own})
    jobs = {}
    try:
        for line in sys.stdin:
            try:
                answer = {"done": perform(jobs, json.loads(line), other)}
            except Exception as error:
                answer = {"failed": f"{type(error).__name__}: {error}"}
            print(json.dumps(answer), flush=True)
    finally:
        for job in jobs.values():
            job.close()


main()
