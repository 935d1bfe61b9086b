// A command from its name and arguments to its result: looks it up, checks the arguments against the schema, runs the
// handler. For a monitor it makes the response, too; the daemon's own command line and a program that has the daemon
// in-process use `execute`.

import { GlibStringSet } from '../base/glib-hash-table.ts';
import type { MaybePromise } from '../base/io-buffer.ts';
import type { Logger } from '../base/log.ts';
import { QmpError } from '../qapi/errors.ts';
import {
  type CommandHandlers,
  type CommandName,
  type Commands,
  commandTable,
} from '../qapi/generated/commands.ts';
import type { QMPCapability } from '../qapi/generated/types.ts';
import type { Validator, validators as Validators } from '../qapi/generated/validators.js';
import { isJsonObject, type JsonObject, type JsonValue } from '../qapi/json-value.ts';
import { writeJson } from '../qapi/json-writer.ts';
import { membersInOrder } from '../qapi/member-order.ts';
import { validationError } from '../qapi/validation-error.ts';
import {
  errorResponse,
  isOutOfBand,
  type QmpMessage,
  type QmpRequest,
  readRequest,
  successResponse,
} from './request.ts';

/** What the dispatcher needs to know of the session that a request came in. */
export interface RequestSession {
  readonly outOfBandEnabled: boolean;
  /** False until `qmp_capabilities` has succeeded; it is the only command until then. */
  readonly negotiated: boolean;
  /** Carries out `qmp_capabilities`. Throws QmpError. */
  negotiate(enable: readonly QMPCapability[]): void;
}

export interface DispatcherOptions<D> {
  readonly handlers: CommandHandlers<D>;
  readonly daemon: D;
  readonly log: Logger;
}

const NEGOTIATION = 'qmp_capabilities';

export class Dispatcher<D> {
  readonly #handlers: CommandHandlers<D>;
  readonly #daemon: D;
  readonly #log: Logger;
  /** Large, so loaded when there are arguments to check for the first time. */
  #validators: typeof Validators | undefined;

  constructor(options: DispatcherOptions<D>) {
    this.#handlers = options.handlers;
    this.#daemon = options.daemon;
    this.#log = options.log;
  }

  /**
   * Carries out a command outside any monitor.
   *
   * @throws QmpError as the command would be answered on the wire
   */
  async execute<N extends CommandName>(
    command: N,
    args: Commands[N]['arguments'],
  ): Promise<Commands[N]['returns']> {
    // A program that is not checked for types may ask for anything.
    if (!isCommand(command)) throw notFound(command);
    return this.#run(command, args);
  }

  /**
   * The response to a message, or nothing for a command that answers only failure. At once when nothing has to be waited
   * for, as every refusal. Never throws or rejects.
   */
  respond(message: JsonValue, session: RequestSession): MaybePromise<QmpMessage | undefined> {
    const refused = (error: unknown) =>
      errorResponse(expecting(this.#asQmpError(error, message), session), message);
    try {
      const { outOfBandEnabled } = session;
      const request = readRequest(message, { outOfBandEnabled });
      const command = this.#lookUp(request, session);
      const answered = (result: unknown) =>
        commandTable[command].successResponse ? successResponse(result, message) : undefined;
      const result = this.#carryOut(command, request.args, session);
      return result instanceof Promise ? result.then(answered).catch(refused) : answered(result);
    } catch (error) {
      return refused(error);
    }
  }

  #lookUp({ command, outOfBand }: QmpRequest, session: RequestSession): CommandName {
    if (!isCommand(command) || (!session.negotiated && command !== NEGOTIATION)) {
      throw notFound(command);
    }
    if (outOfBand && !commandTable[command].allowOob) {
      throw new QmpError(`The command ${command} does not support OOB`);
    }
    return command;
  }

  #carryOut(command: CommandName, args: JsonObject, session: RequestSession): unknown {
    if (command !== NEGOTIATION) return this.#run(command, args);
    const negotiate = () => session.negotiate((args['enable'] ?? []) as QMPCapability[]);
    // Most peers enable nothing; their first answer does not wait for the validators.
    const checking = Object.keys(args).length === 0 ? undefined : this.#check(command, args);
    return checking instanceof Promise ? checking.then(negotiate) : negotiate();
  }

  #run<N extends CommandName>(
    command: N,
    args: JsonObject | Commands[N]['arguments'],
  ): MaybePromise<Commands[N]['returns']> {
    const handle = () => this.#handlers[command](args, this.#daemon);
    const checking = this.#check(command, args);
    return checking instanceof Promise ? checking.then(handle) : handle();
  }

  /** Checks the arguments; only the first time, when the validators are loaded, it takes a promise. */
  #check(command: CommandName, args: object): void | Promise<void> {
    const { argumentsType } = commandTable[command];
    if (argumentsType === 'NoArguments') return checkNoArguments(args);
    const validators = this.#validators;
    if (validators !== undefined) return checkArguments(validators[argumentsType], args);
    return import('../qapi/generated/validators.js').then((loaded) => {
      this.#validators = loaded.validators;
      checkArguments(loaded.validators[argumentsType], args);
    });
  }

  /** A handler that throws anything but QmpError has a fault: answered, logged once, and nothing else stops. */
  #asQmpError(error: unknown, message: JsonValue): QmpError {
    if (error instanceof QmpError) return error;
    const reason = error instanceof Error ? error.message : String(error);
    const member = isOutOfBand(message) ? 'exec-oob' : 'execute';
    const command = isJsonObject(message) ? message[member] : undefined;
    // Not the arguments: they may hold a secret.
    this.#log.error(`Command ${writeJson(command)} failed unexpectedly: ${reason}`, { err: error });
    return new QmpError(`Internal error: ${reason}`, { cause: error });
  }
}

function isCommand(name: string): name is CommandName {
  return Object.hasOwn(commandTable, name);
}

function notFound(command: string): QmpError {
  return new QmpError(`The command ${command} has not been found`, { class: 'CommandNotFound' });
}

/** Before negotiation every command is unknown, and the reference says what it waits for instead. */
function expecting(error: QmpError, session: RequestSession): QmpError {
  if (session.negotiated || error.class !== 'CommandNotFound') return error;
  return new QmpError(`Expecting capabilities negotiation with '${NEGOTIATION}'`, {
    class: 'CommandNotFound',
  });
}

function checkNoArguments(args: object): void {
  const [unexpected] = new GlibStringSet(membersInOrder(args));
  if (unexpected !== undefined) throw new QmpError(`Parameter '${unexpected}' is unexpected`);
}

function checkArguments(validate: Validator, args: object): void {
  if (!validate(args)) throw validationError(validate.errors, args);
}
