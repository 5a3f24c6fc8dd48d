/**
 * Column kinds that every table shares, so that a time, a count and an amount of money have one
 * type each. Each call makes a new builder: drizzle binds a builder to its table.
 */
import { bigint, customType, numeric, timestamp } from 'drizzle-orm/pg-core'

/** A point in time, UTC; the database's clock where it has a default. */
export const time = (name: string) => timestamp(name, { withTimezone: true, mode: 'date' })

/** When the row was written, by the database's clock. */
export const createdAt = () => time('created_at').notNull().defaultNow()

/** An integer that fits a JavaScript number: tokens, bytes, microseconds. */
export const count = (name: string) => bigint(name, { mode: 'number' })

/** Pico-USD per token; 2⁶³ of them are nine million dollars a token. */
export const pusdPerToken = (name: string) => bigint(name, { mode: 'bigint' })

/** An amount of pico-USD. Wider than 64 bits: tokens times price may be. */
export const pusd = (name: string) => numeric(name, { precision: 40, scale: 0, mode: 'bigint' })

/** A sum of counts. Wider than 64 bits, so that no event, however absurd, can stop a roll-up. */
export const total = (name: string) => numeric(name, { precision: 40, scale: 0, mode: 'bigint' })

/**
 * Text in the order of its bytes, whatever the database's locale: ids sort by the time that they
 * carry, and a month of them is a range.
 */
export const bytewiseText = customType<{ data: string }>({ dataType: () => 'text COLLATE "C"' })
